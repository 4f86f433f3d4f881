"""What goes wrong for a reason that a person can mend."""


class UserError(Exception):
    """An error whose message says what is wrong and what to do; commands show it and stop."""
