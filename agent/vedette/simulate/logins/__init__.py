"""The scenario `login-events`: what an identity provider logs about a firm's people, and about those who break in.

Rules this package keeps: a seed gives the same rows on any CPU; an account's own rows depend on the seed, its
number and the start, not on how many others there are; no column gives an attack away by itself, because all
that attackers use (event types, clients, roles, cities, lines, hours) innocent people use too.
`tests/simulate/test_login_events.py` holds the figures to that.
"""
