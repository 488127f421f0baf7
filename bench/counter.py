"""A counter that processes increment under a multiprocessing.Lock: prints the seconds one increment took.

Arguments: how many processes, how often each increments.
"""
import multiprocessing
import sys
import time

context = multiprocessing.get_context("fork")


def work(lock, counter, ready, gate, times):
    ready.release()
    gate.acquire()
    for _ in range(times):
        with lock:
            counter.value += 1


def main(processes, times):
    lock, ready, gate = context.Lock(), context.Semaphore(0), context.Semaphore(0)
    counter = context.RawValue("q", 0)
    crew = [context.Process(target=work, args=(lock, counter, ready, gate, times)) for _ in range(processes)]
    for process in crew:
        process.start()
    for _ in crew:
        ready.acquire()
    start = time.monotonic()
    for _ in crew:
        gate.release()
    for process in crew:
        process.join()
    seconds = time.monotonic() - start
    assert counter.value == processes * times
    print(seconds / counter.value)


main(int(sys.argv[1]), int(sys.argv[2]))
