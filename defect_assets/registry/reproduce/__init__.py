"""A release, trained again by the code, the packages and the data of then."""
