"""istio"""
