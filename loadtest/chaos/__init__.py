"""The kill test: what was acknowledged is in the store exactly once, whatever is killed or frozen meanwhile.

`run` is the test from start to end; `shoppers` and `producers` are the load, each in a process of its own; `faults`
says what is killed when, and `killer` does it; `audit` compares what the load wrote down with what the store holds.
"""
