# Runs in the sandbox: sets limits, runs the program it is sent, and says so only if all of it ran.
import json, os, random, resource, sys

job = json.load(sys.stdin)
for name, most in job["limits"].items():
    resource.setrlimit(getattr(resource, name), (most, most))
# Tests that draw numbers draw the same ones in every run.
random.seed(0)
code = compile(job["program"], "program", "exec")
# A name of its own, so that what stands under `if __name__ == "__main__"` does not run.
exec(code, {"__name__": "program"})
sys.stdout.flush()
os.write(1, job["done"].encode())
