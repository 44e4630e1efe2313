"""Tests of tinygrad_opt.nn."""
