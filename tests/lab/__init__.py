"""Tests of adamx.lab."""
