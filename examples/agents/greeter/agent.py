# Run it in Skep from this folder: skep deploy greeter --command "python3 agent.py"
"""An agent of one function, with the package `skep`: it greets, at once or word by word.

Try it with: skep call greeter /greet -d '{"name": "you"}'
"""

import skep


def words(name):
    for word in ("hello,", name):
        yield {"word": word}


def greet(request):
    name = request.json().get("name", "world")
    if request.path == "/words":
        return words(name)
    return {"greeting": f"hello, {name}"}


if __name__ == "__main__":
    skep.serve(greet)
