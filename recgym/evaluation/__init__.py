"""What a ranker or a policy is worth: metrics, questions, sessions, floors, ceilings and paired comparisons."""

from recgym.evaluation import metrics as metrics
