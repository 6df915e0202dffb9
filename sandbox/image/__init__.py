"""Images: names, archives, layers and the store; the door for everybody else is `prepare.prepare`.  (cold)"""
