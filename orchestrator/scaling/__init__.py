"""How many engines there are: a workload of the cluster follows what there is to run, and loses empty engines only."""
