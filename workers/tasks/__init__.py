"""The three tasks that a job is made of (plan, segment, join), and what they share: leases, failures, inputs.

`workers.tasks.running` runs any of them; a task may be delivered twice, to two workers, or never end.
"""
