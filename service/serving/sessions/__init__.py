"""Sessions: the steps of episodes, one after the other, with what is carried between them.

route, socket ──► Sessions (registry.py: which are open, and how they end)
└──► Steps (steps.py: a step becomes a job of the agent's batches)
└──► Episodes (episodes.py: what is recorded, as a run)
"""
