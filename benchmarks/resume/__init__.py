"""Whether killed trainings resume to identical weights."""
