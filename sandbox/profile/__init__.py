"""Profiles: TOML -> part of the OCI dict, and seccomp rules -> BPF.  (cold)"""
