"""sandbox/controllers"""
