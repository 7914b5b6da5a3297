"""`vedette bench`: what a reading costs on this machine, without a broker."""
