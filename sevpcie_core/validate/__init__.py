"""Reference data against the model. A comparison fits nothing; `calibrate` does, with some of the rows.

Rule: a data set is compared under its own conditions, point by point, and says what it must reach before it
is looked at. docs/validation.md says what each is.
"""
