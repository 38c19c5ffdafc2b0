"""sandbox/api"""
