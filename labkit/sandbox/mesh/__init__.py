"""sandbox/mesh"""
