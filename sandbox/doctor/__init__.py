"""What this machine can do for sbx: each operation tried for real, each failure explained.  (cold)"""
