"""Runs a graph of tasks: in order, bounded, with time limits, retries and a sound end.

A task that did not pass cancels what needs it and nothing else. Every task gets an end, also
when the run is stopped. What a task does, and what its value means, is none of its business.
"""

from ci.scheduler.execution import Scheduler
from ci.scheduler.stop import INTERRUPTED, Stop
from ci.scheduler.task import Action, Backoff, End, Need, Result, Task, Trigger

__all__ = [
    "INTERRUPTED",
    "Action",
    "Backoff",
    "End",
    "Need",
    "Result",
    "Scheduler",
    "Stop",
    "Task",
    "Trigger",
]
