"""Attempts of the worker in this process: jobs over small inputs, engines that misbehave, attempts that move step by step."""
