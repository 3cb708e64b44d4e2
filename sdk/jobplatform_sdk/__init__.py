"""Agents, clients and the command line of the job platform."""
