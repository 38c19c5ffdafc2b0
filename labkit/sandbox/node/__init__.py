"""sandbox/node"""
