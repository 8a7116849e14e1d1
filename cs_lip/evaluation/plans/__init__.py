"""The plans that come with cs-lip, as data: `cs_lip.evaluation.sweep.plan_file.ready_plan`."""
