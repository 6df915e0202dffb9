"""Registries: who is asked for a name, credentials, the distribution protocol.  (cold)"""
