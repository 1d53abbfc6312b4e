"""What makes each message of the tables "the error says | it is | do" come up, with the real parts.

A provocation is a generator: it yields what people read, and what follows its `yield` is the cure, which must work.
"""
