"""Items that one process puts into a multiprocessing.SimpleQueue and another gets: prints the seconds an item took.

Arguments: how many items; the length of each, or 0 for numbers.
"""
import multiprocessing
import sys
import time

context = multiprocessing.get_context("fork")


def produce(queue, gate, item, count):
    gate.acquire()
    for _ in range(count):
        queue.put(item)


def main(count, length):
    queue, gate = context.SimpleQueue(), context.Semaphore(0)
    producer = context.Process(target=produce, args=(queue, gate, "x" * length if length else 1, count))
    producer.start()
    start = time.monotonic()
    gate.release()
    for _ in range(count):
        queue.get()
    seconds = time.monotonic() - start
    producer.join()
    print(seconds / count)


main(int(sys.argv[1]), int(sys.argv[2]))
