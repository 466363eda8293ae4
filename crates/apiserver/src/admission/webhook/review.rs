//! AdmissionReview, out and back.

use machinery::field::go_quote;
use machinery::{Get, Value, json};

/// What is sent: the request with its uid and objects.
pub fn review(version: &str, uid: &str, mut request: Value, object: &Value, old: &Value) -> Value {
    request.set("uid", uid);
    request.set("object", object.clone());
    request.set("oldObject", old.clone());
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request})
}

/// The response in a review, or why it is none.
pub fn response(review: Value, version: &str, uid: &str, mutating: bool) -> Result<Value, String> {
    let response = review.at("response");
    if !response.is_object() {
        return Err("webhook response was absent".into());
    }
    let mut response = response.clone();
    if version != "v1" {
        if mutating && !response.text("patch").is_empty() {
            response.set("patchType", "JSONPatch");
        } else if !mutating {
            response.unset("patch");
        }
        return Ok(response);
    }
    if response.text("uid") != uid {
        let got = go_quote(response.text("uid"));
        return Err(format!("expected response.uid={}, got {got}", go_quote(uid)));
    }
    let (api, kind) = (review.text("apiVersion"), review.text("kind"));
    if api != "admission.k8s.io/v1" || kind != "AdmissionReview" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api}, Kind={kind}"
        ));
    }
    let (patch, kind) = (response.text("patch"), response.at("patchType").as_str());
    match (mutating, patch.is_empty(), kind) {
        (false, false, _) => Err("validating webhook may not return response.patch".into()),
        (false, _, Some(_)) => Err("validating webhook may not return response.patchType".into()),
        (true, false, None) => Err("webhook returned response.patch but not response.patchType".into()),
        (true, true, Some(_)) => Err("webhook returned response.patchType but not response.patch".into()),
        (true, _, Some("")) => Err("webhook returned invalid response.patchType of \"\"".into()),
        _ => Ok(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none() {
        let check = |response: Value, mutating: bool, want: &str| {
            let review =
                json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
            assert_eq!(super::response(review, "v1", "u", mutating).unwrap_err(), want);
        };
        check(Value::Null, true, "webhook response was absent");
        check(json!({"uid": "x"}), true, "expected response.uid=\"u\", got \"x\"");
        let patch = json!({"uid": "u", "patch": "W10="});
        check(patch.clone(), true, "webhook returned response.patch but not response.patchType");
        check(patch, false, "validating webhook may not return response.patch");
    }
}
