"""Runs that measure, which a maintainer starts. What tells whether they went well is tested with all else."""
