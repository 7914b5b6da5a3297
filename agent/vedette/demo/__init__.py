"""`vedette demo`: everything on one machine, to see it work: a broker, a simulated fleet, the real agent, its alerts."""
