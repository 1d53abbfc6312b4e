"""The lake's stores: the suite that each must pass, a proxy of bad days, a lake that is away."""
