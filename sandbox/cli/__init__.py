"""The command line apart from the hot verbs: one small file per verb.  (cold)"""
