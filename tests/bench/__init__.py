"""Long runs that a maintainer starts. What tells whether they went well is tested with all else."""
