//! What went wrong at a provider, by class. The class comes from the body's words first and from the status only where
//! they say nothing: a 429 may mean "later" or "never", and errors come within HTTP 200 too.

use serde_json::Value;
use skein_engine::session::model::RunError;

/// An error, as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub class: Class,
    /// The provider's own words, or one sentence of ours.
    pub message: String,
    /// How long to wait, in milliseconds, if the provider said so.
    pub retry_after_ms: Option<u64>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A wrong or missing key, or no permission.
    Key,
    /// No money or quota left: a person has to act.
    Quota,
    /// Too many requests just now.
    RateLimit,
    /// The provider is overloaded, or has an error of its own.
    Overload,
    /// The endpoint can't be reached.
    Network,
    /// The request is wrong: unknown model, refused parameter.
    BadRequest,
    /// The conversation is too long for the model.
    ContextTooLong,
    /// A picture among what was sent isn't taken.
    Picture,
    /// The connection ended in the middle of an answer.
    Cut,
    /// What came is no answer of this kind of provider.
    BadAnswer,
}

impl Class {
    /// As a run's `error.code` holds it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Quota => "quota",
            Self::RateLimit => "rate_limit",
            Self::Overload => "overload",
            Self::Network => "network",
            Self::BadRequest => "bad_request",
            Self::ContextTooLong => "context_too_long",
            Self::Picture => "picture_refused",
            Self::Cut => "cut",
            Self::BadAnswer => "bad_answer",
        }
    }

    /// Whether the same request may succeed by itself in a moment.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::RateLimit | Self::Overload | Self::Network | Self::Cut)
    }

    /// Whether the same request will fail until a person has changed something: neither a queue nor a schedule nor a
    /// policy of retries may try it again.
    pub fn needs_person(self) -> bool {
        matches!(self, Self::Key | Self::Quota | Self::BadRequest | Self::ContextTooLong | Self::Picture)
    }

    /// Whether a later try may help without anything else being changed.
    pub fn is_retryable(self) -> bool {
        !self.needs_person()
    }
}

/// Whether only a person can mend what a run ended with: then no schedule, queue or retry tries it again.
pub fn needs_person(error: &RunError) -> bool {
    let final_ones = [Class::Key, Class::Quota, Class::BadRequest, Class::ContextTooLong];
    !error.retryable || final_ones.iter().any(|class| class.code() == error.code)
}

impl Failure {
    /// A failure in words of ours.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after_ms: None }
    }

    /// Of an HTTP answer that isn't 2xx.
    pub fn of_response(status: u16, retry_after_ms: Option<u64>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let mut failure = match serde_json::from_str::<Value>(&text) {
            Ok(body) => Self::of_body(Some(status), &body),
            Err(_) => Self::new(class_of(Some(status), &text.to_lowercase()), first_words(&text)),
        };
        if failure.message.is_empty() {
            failure.message = format!("The model's server answered HTTP {status}.");
        }
        failure.retry_after_ms = retry_after_ms.or(failure.retry_after_ms);
        failure
    }

    /// Of a body, or of an event in the middle of a stream.
    pub fn of_body(status: Option<u16>, body: &Value) -> Self {
        // Some wrap the object in an array (Google's compatible endpoint).
        let body = body.as_array().and_then(|items| items.first()).unwrap_or(body);
        let error = match body.get("error") {
            None | Some(Value::Null) => body,
            Some(error) => error,
        };
        let message = message_of(error).or_else(|| message_of(body)).unwrap_or_default();
        let number = ["status_code", "status", "code", "http_code"]
            .iter()
            .find_map(|key| match error.get(key)? {
                Value::String(text) => text.parse().ok(),
                number => number.as_u64(),
            })
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| (400..600).contains(code));
        // Class by all words that the body holds, so that a gateway's "raw" upstream message counts too.
        let words = body.to_string().to_lowercase();
        let retry_after_ms = ["retry_after_seconds", "retry_after"]
            .iter()
            .find_map(|key| {
                let of = |value: &Value| value.get(key).and_then(Value::as_f64);
                of(error).or_else(|| of(error.get("metadata")?))
            })
            .or_else(|| retry_delay(error))
            .and_then(seconds_to_ms);
        Self { class: class_of(number.or(status), &words), message, retry_after_ms }
    }

    /// Whether a request with pictures was refused because of one. Servers have no common code for that: their words
    /// are "image_url is only supported by certain models", "Could not process image", "does not support vision".
    pub fn names_pictures(&self) -> bool {
        let words = self.message.to_lowercase();
        self.class == Class::BadRequest
            && ["image", "picture", "vision", "multimodal", "mmproj"].iter().any(|word| words.contains(word))
    }

    /// The sentence for a person, the cause first, then what they can do.
    pub fn sentence(&self, provider: &str) -> String {
        let said = first_words(&self.message);
        match self.class {
            Class::Key => format!(
                "The key for provider \"{provider}\" was refused: {said} — set another one where the worker runs, start \
                 it again, and retry."
            ),
            Class::Quota => format!(
                "No quota is left at provider \"{provider}\": {said} — add some there and retry, or choose another model."
            ),
            Class::RateLimit => format!("Provider \"{provider}\" is limiting requests just now: {said}"),
            Class::Overload => format!("Provider \"{provider}\" is overloaded or has an error of its own: {said}"),
            Class::Network => format!("Provider \"{provider}\" can't be reached: {said}"),
            Class::BadRequest => format!("Provider \"{provider}\" refused the request: {said}"),
            Class::ContextTooLong => format!(
                "The conversation is too long for the model: {said} — start a new session, duplicate this one from an \
                 earlier message, or choose a model with a larger window."
            ),
            Class::Picture => format!("Provider \"{provider}\" refused a picture: {said}"),
            Class::Cut => {
                format!("The connection to provider \"{provider}\" was lost in the middle of the answer: {said}")
            }
            Class::BadAnswer => format!("Provider \"{provider}\" gave an answer that can't be read: {said}"),
        }
    }
}

/// Seconds from a header or body, if they make sense: at most 31 days, which is how long a quota of a month may take.
pub fn seconds_to_ms(seconds: f64) -> Option<u64> {
    (0.0..=2_678_400.0).contains(&seconds).then_some((seconds * 1000.0) as u64)
}

/// Google's `RetryInfo` among an error's details: seconds, as in "37.5s" (google/rpc/error_details.proto).
fn retry_delay(error: &Value) -> Option<f64> {
    let details = error.get("details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    delay.strip_suffix('s')?.parse().ok()
}

fn message_of(error: &Value) -> Option<String> {
    let text = match error {
        Value::String(text) => text.clone(),
        Value::Array(items) => return message_of(items.first()?),
        _ => ["message", "detail", "msg", "status_msg", "errors", "error_description", "title"].iter().find_map(
            |key| match error.get(key)? {
                Value::String(text) => Some(text.clone()),
                Value::Array(items) => message_of(items.first()?),
                Value::Object(_) => message_of(error.get(key)?),
                _ => None,
            },
        )?,
    };
    Some(text).filter(|text| !text.trim().is_empty())
}

fn class_of(status: Option<u16>, words: &str) -> Class {
    let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
    // Limits by the minute speak of quota and billing too: OpenAI's link to where one buys a higher one, Google's all do,
    // and only its quota's id tells a day's from a minute's (ai.google.dev/gemini-api/docs/rate-limits).
    let passes = says(&["rate_limit_exceeded", "retrydelay"]) && !says(&["insufficient_quota", "perday"]);
    if passes {
        return Class::RateLimit;
    }
    if says(&[
        "insufficient_quota",
        "billing details",
        "billing_",
        "credit balance",
        "insufficient credits",
        "insufficient balance",
        "exceeded your current quota",
        "payment required",
        "out of credits",
    ]) {
        return Class::Quota;
    }
    if says(&[
        "authentication_error",
        "permission_error",
        "invalid_api_key",
        "invalid api key",
        "incorrect api key",
        "api key not valid",
        "api key is invalid",
        "no auth credentials",
        "unauthorized",
    ]) {
        return Class::Key;
    }
    if says(&[
        "context_length_exceeded",
        "exceed_context_size",
        "context length",
        "context size",
        "context window",
        "prompt is too long",
        "input is too long",
        "too many tokens in",
        "request_too_large",
        "maximum prompt length",
    ]) {
        return Class::ContextTooLong;
    }
    if says(&["overloaded", "server_busy", "service_unavailable", "engine is currently"]) {
        return Class::Overload;
    }
    if says(&["rate_limit", "rate limit", "rate-limit", "too many requests", "resource_exhausted"]) {
        return Class::RateLimit;
    }
    match status {
        Some(401 | 403) => Class::Key,
        Some(402) => Class::Quota,
        Some(413) => Class::ContextTooLong,
        Some(429) => Class::RateLimit,
        Some(408 | 409 | 425 | 500..) => Class::Overload,
        Some(300..) => Class::BadRequest,
        _ if says(&["invalid_request", "not_found_error", "bad request"]) => Class::BadRequest,
        // In mid-stream, without a word that says more: the provider's own fault.
        _ => Class::Overload,
    }
}

/// The beginning of a text on one line, at most 400 characters.
pub fn first_words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, body: &str) -> Class {
        Failure::of_response(status, None, body.as_bytes()).class
    }

    #[test]
    fn the_body_says_more_than_the_status() {
        let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota"}}"#;
        assert_eq!(class(429, quota), Class::Quota);
        assert_eq!(class(429, r#"{"error":{"message":"Rate limit reached"}}"#), Class::RateLimit);
        assert_eq!(class(400, r#"[{"error":{"code":400,"message":"API key not valid."}}]"#), Class::Key);
        assert_eq!(class(400, r#"{"error":{"message":"maximum context length is 8192"}}"#), Class::ContextTooLong);
        assert_eq!(
            class(529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
            Class::Overload
        );
        assert_eq!(class(404, r#"{"error":"model \"x\" not found"}"#), Class::BadRequest);
        assert_eq!(class(502, "<html>Bad gateway</html>"), Class::Overload);
        assert_eq!(class(429, ""), Class::RateLimit);
    }

    #[test]
    fn a_limit_by_the_minute_is_no_quota_that_is_used_up() {
        let google = |id: &str| {
            let details = format!(
                r#"[{{"violations":[{{"quotaId":"{id}"}}]}},{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37.5s"}}]"#
            );
            let body = format!(
                r#"{{"error":{{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":{details}}}}}"#
            );
            Failure::of_response(429, None, body.as_bytes())
        };
        let minute = google("GenerateRequestsPerMinutePerProjectPerModel");
        assert_eq!((minute.class, minute.retry_after_ms), (Class::RateLimit, Some(37_500)));
        assert_eq!(google("GenerateRequestsPerDayPerProjectPerModel-FreeTier").class, Class::Quota);
        let openai = r#"{"error":{"message":"Rate limit reached. Visit /account/billing to add a payment method.","code":"rate_limit_exceeded"}}"#;
        assert_eq!(class(429, openai), Class::RateLimit);
    }

    #[test]
    fn messages_are_found_wherever_servers_put_them() {
        let message = |body: &str| Failure::of_response(400, None, body.as_bytes()).message;
        assert_eq!(message(r#"{"error":{"message":"a"}}"#), "a");
        assert_eq!(message(r#"{"error":"b"}"#), "b");
        assert_eq!(message(r#"{"object":"error","message":"c"}"#), "c");
        assert_eq!(message(r#"{"detail":[{"msg":"d"}]}"#), "d");
        assert_eq!(message(r#"{"error":["e"]}"#), "e");
        assert_eq!(message(r#"{"code":"x","error":"f"}"#), "f");
        assert_eq!(message("plain\nwords"), "plain words");
        assert_eq!(message("{}"), "The model's server answered HTTP 400.");
    }

    #[test]
    fn a_refused_picture_is_told_from_other_bad_requests() {
        let names = |status, body: &str| Failure::of_response(status, None, body.as_bytes()).names_pictures();
        assert!(names(400, r#"{"error":{"message":"image_url is only supported by certain models"}}"#));
        assert!(names(
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Could not process image"}}"#
        ));
        assert!(!names(400, r#"{"error":{"message":"unknown model"}}"#));
        assert!(!names(529, r#"{"error":{"message":"image service overloaded"}}"#));
    }

    #[test]
    fn what_is_final_is_not_tried_again() {
        for class in [Class::Key, Class::Quota, Class::ContextTooLong, Class::BadRequest] {
            assert!(!class.is_transient() && class.needs_person() && !class.is_retryable());
        }
        for class in [Class::RateLimit, Class::Overload, Class::Network, Class::Cut, Class::BadAnswer] {
            assert!(!class.needs_person() && class.is_retryable());
        }
        assert!(Class::RateLimit.is_transient() && Class::Cut.is_transient());
    }
}
