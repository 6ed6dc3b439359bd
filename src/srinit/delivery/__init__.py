"""The steps at the end of a run: what it hands over, judged as it is handed over."""
