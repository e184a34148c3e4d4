"""DynamoDB over moto: serialised, with what moto gets wrong put right."""
