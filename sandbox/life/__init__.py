"""The files of containers: looked at, copied, compared, made into images.  (cold)"""
