"""Whether an input can be scored: all of it is read and encoded as for the job, none is sent."""
