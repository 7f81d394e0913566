"""The command ``evaluate``: measure predictions against true images, beside baselines; write a report."""
