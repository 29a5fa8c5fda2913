// One question to a quorum for everybody who asks at about the same time. An answer is good only for those who asked
// before the question was put: who comes while one is under way shares the next.

export class SharedQuestion<T> {
  readonly #put: () => Promise<T>;
  #underWay: Promise<unknown> | undefined;
  #next: Promise<T> | undefined;

  constructor(put: () => Promise<T>) {
    this.#put = put;
  }

  /** The answer to a question that is put after this call. */
  ask(): Promise<T> {
    this.#next ??= this.#putAfter(this.#underWay);
    return this.#next;
  }

  async #putAfter(underWay: Promise<unknown> | undefined): Promise<T> {
    // At the least one turn later, so that those who ask in the same turn share it; its failure is its askers'.
    await underWay?.catch(() => undefined);
    await Promise.resolve();
    const question = this.#next;
    this.#underWay = question;
    this.#next = undefined;
    try {
      return await this.#put();
    } finally {
      if (this.#underWay === question) this.#underWay = undefined;
    }
  }
}
