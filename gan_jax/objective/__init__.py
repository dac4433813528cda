"""What experiments swap: losses, targets, penalties, augmentations, replay.

All are pure functions of arrays, typed by the decorators of terms.py; no file knows the
networks or the training step, and any of them may be edited freely. A new loss is a
`Loss` or a `@family` in losses.py, a change of its labels a `@transform` in targets.py,
a new augmentation an `@augmentation` in augment.py, a new penalty a `@penalty` in
penalties/. A config finds them by their name alone; each gets a row in the table of the
test file of its name.
"""
