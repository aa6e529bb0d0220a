"""What TaskFlow costs, measured beside something that shows what the machine could do. See RESULTS.md.

`python -m benchmarks` runs every measure, `python -m benchmarks.end_to_end` one of them.
`python -m benchmarks.generate` and `python -m benchmarks.run` compare one thread with the engine on a task file.
"""
