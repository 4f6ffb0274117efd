"""Scores of records before and after their edits: cases by a model, figures and tables of cases without one."""

from cfbuild.callable_room import make_callable

make_callable(__name__)
