output "alarms" {
  description = "The alarms, by name: metric, dimensions, threshold, period and description."
  value = { for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name => {
    metric      = "${alarm.namespace} ${alarm.metric_name}"
    dimensions  = alarm.dimensions
    threshold   = alarm.threshold
    period      = alarm.period
    description = alarm.alarm_description
  } }
}

output "names" {
  description = "The alarms' names."
  value       = [for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name]
}
