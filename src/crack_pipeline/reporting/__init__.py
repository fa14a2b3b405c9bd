"""Documents for people, written from what pipelines know."""
