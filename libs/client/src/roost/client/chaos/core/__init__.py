"""The pure part of chaos: rows, seeded schedules, checked streams, verdicts and the report."""
