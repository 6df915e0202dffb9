"""Images on the move: between store, archives, folders and registries.  (cold)"""
