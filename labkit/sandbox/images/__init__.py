"""sandbox/images"""
