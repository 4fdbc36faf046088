package geolane.router;

import org.apache.kafka.common.protocol.Errors;

/** A topic does not take what it is sent; the words are those of agents/kafka/refusals.py. */
final class Refused extends RuntimeException {
  private static final long serialVersionUID = 1;

  Refused(String topic, int partition, Errors error) {
    super(explain(topic, partition, error));
  }

  /** Empty if the error is another one. */
  static String explain(String topic, int partition, Errors error) {
    String words = Rules.refusal(error.code());
    return words == null ? "" : topic + "/" + partition + " refuses: " + words;
  }

  /** What the error, or a cause of it, says of a refusal; empty if none does. */
  static String find(Throwable error) {
    for (Throwable cause = error; cause != null; cause = cause.getCause()) if (cause instanceof Refused) return cause.getMessage();
    return "";
  }
}
