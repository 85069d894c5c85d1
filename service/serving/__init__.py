"""Acting over HTTP: loaded agents, micro-batching and the one hot route, ``compute_action``.

    body ──► ActionRequest ──► AgentCache (selector → checkpoint → loaded agent) ──► ObservationReader
         ──► Batcher (requests of one loop turn share one forward) ──► agent ──► {"action": …}

Dense policies act in this process, without torch; the others in a child process (``child.py``).
"""
