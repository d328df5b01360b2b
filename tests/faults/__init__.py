"""The fault checker: replicas, publishers and viewers under harm, and a judge over what was seen.

`judge` is pure: the verdict over one viewer's record against what was written. `publisher` writes
numbered entries and knows which were acknowledged, `viewer` resumes wherever it can and notes every
frame, `replicas` are real processes behind proxies, `plan` draws the faults from a seed, `harm`
carries them out, `stage` runs it all and reports. `test_faults` is the long run, `test_scenarios`
one test for each known kind of harm, `test_judge` proves that the judge would notice.

    TIDEGATE_FAULTS_SEED=7 TIDEGATE_FAULTS_SECONDS=300 make test ARGS=tests/faults/test_faults.py
"""
