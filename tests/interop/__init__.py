"""Tests of what comes from other libraries, and goes there."""
