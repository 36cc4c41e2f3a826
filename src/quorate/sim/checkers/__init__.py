"""Checkers: did what clients saw agree with what a system promises?"""
